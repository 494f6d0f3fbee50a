"""The local SageMaker: a second, independent reading of the AWS contract.

It imports nothing of the product, so that it can disagree with it.
"""
