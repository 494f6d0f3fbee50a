"""`application/x-recordio-protobuf`."""
