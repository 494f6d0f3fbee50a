#!/usr/bin/env bash
# Build the image, try it, and push it to Amazon ECR in a form that SageMaker accepts.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/engine.sh

usage() {
    cat <<'TEXT'
Usage: ./build_and_push.sh [OPTION]... IMAGE_NAME

Build the image of this checkout, train and predict with it, push it to the ECR repository
IMAGE_NAME of your account, and print the digest and the URI to give to SageMaker. The repository
is made when it is missing: scanned on push, tags immutable. The tag is <version>-<commit>, plus
-slim, -gpu or -arm64 for images that are not the default.

  --target full|slim       every framework (default), or XGBoost only
  --accelerator cpu|gpu    which locked requirements go in (default cpu)
  --platform PLATFORM      linux/amd64 (default), or linux/arm64 for Graviton instances
  --allow-dirty            build although files differ from the commit; the tag then ends in
                           -dirty-<time>
  --skip-smoke-test        for a platform that this machine cannot run
  --dry-run                print every command and run none
  --help                   print this text

Environment: the AWS CLI's own (AWS_PROFILE, AWS_REGION, ...).
  BASE_IMAGE      what to start from, say debian@sha256:... (default: the Dockerfile's own)
  BUILD_NETWORK   the network of the build steps (default: the engine's own)
  ECR_REGISTRY    host[:port] to push to in place of the account's ECR registry

Progress goes to standard error. Standard output has the commands of a dry run, or else two lines:
  digest: sha256:...
  uri:    <registry>/IMAGE_NAME:<tag>
TEXT
}

say() { echo "build_and_push: $*" >&2; }
die() { echo "build_and_push: $*" >&2; exit 1; }
usage_error() { usage >&2; die "$@"; }

parse_arguments() {
    name="" target=full accelerator=cpu platform=linux/amd64
    allow_dirty=no smoke_test=yes dry_run=no
    while [ $# -gt 0 ]; do
        case $1 in
            --target | --accelerator | --platform)
                [ $# -ge 2 ] || usage_error "$1 needs a value"
                printf -v "${1#--}" '%s' "$2"
                shift
                ;;
            --allow-dirty) allow_dirty=yes ;;
            --skip-smoke-test) smoke_test=no ;;
            --dry-run) dry_run=yes ;;
            -h | --help) usage; exit 0 ;;
            -*) usage_error "unknown option '$1'" ;;
            *)
                [ -z "$name" ] || usage_error "one IMAGE_NAME is needed; given: '$name' and '$1'"
                name=$1
                ;;
        esac
        shift
    done
    check_arguments
}

check_arguments() {
    local valid_name='^[a-z0-9]+([._/-][a-z0-9]+)*$'
    [ -n "$name" ] || usage_error "IMAGE_NAME is missing, for example: ./build_and_push.sh my-model"
    [[ $name =~ $valid_name ]] || die "IMAGE_NAME '$name' is not a repository name:" \
        "lower-case letters and digits, with single . _ - / between them"
    case $target in
        full | slim) ;;
        *) die "--target '$target' is not known; accepted: full, slim" ;;
    esac
    case $accelerator in
        cpu | gpu) ;;
        *) die "--accelerator '$accelerator' is not known; accepted: cpu, gpu" ;;
    esac
    case $platform in
        linux/amd64 | linux/arm64) ;;
        *) die "--platform '$platform' is not one of SageMaker's; accepted: linux/amd64, linux/arm64" ;;
    esac
}

check_tools() {
    command -v git >/dev/null || die "no 'git' on PATH: the tag names the commit"
    [ "$dry_run" = no ] || return 0
    command -v docker >/dev/null || die "no 'docker' on PATH; install Docker Engine or Docker Desktop"
    command -v aws >/dev/null || die "no 'aws' on PATH; install the AWS CLI"
    engine_answers ||
        die "the Docker engine does not answer ('docker info' fails); start it, or set DOCKER_HOST"
}

# An immutable tag that names a commit must hold that commit.
choose_tag() {
    local changed
    changed=$(git status --porcelain) || die "this is no git checkout, and the tag names the commit"
    tag=$(product_version)-$(git rev-parse --short HEAD)
    if [ "$target" != full ]; then tag+=-$target; fi
    if [ "$accelerator" != cpu ]; then tag+=-$accelerator; fi
    if [ "$platform" != linux/amd64 ]; then tag+=-${platform#*/}; fi
    [ -n "$changed" ] || return 0
    [ "$allow_dirty" = yes ] ||
        die "files differ from the commit; commit them, or pass --allow-dirty:"$'\n'"$changed"
    tag+=-dirty-$(date +%s)
}

# Print a command so that it can be pasted into a shell. Descriptor 3 is the standard output of this
# script, whatever the caller does with its own.
print_command() {
    local word line=""
    for word in "$@"; do
        [[ $word =~ ^[A-Za-z0-9_./:=@+-]+$ ]] || word=${word@Q}
        line+="$word "
    done
    echo "${line% }" >&3
}

# Run a command, or print it in a dry run.
run() {
    if [ "$dry_run" = yes ]; then print_command "$@"; else "$@"; fi
}

# Ask the AWS CLI; sets aws_answer (in a dry run to PLACEHOLDER) and, on failure, aws_error.
# Usage: ask PLACEHOLDER ARGUMENT...
ask() {
    local status=0 command=(aws)
    aws_answer=$1
    shift
    if [ -n "$region" ]; then command+=(--region "$region"); fi
    command+=("$@")
    if [ "$dry_run" = yes ]; then
        print_command "${command[@]}"
        return
    fi
    aws_answer=$("${command[@]}" 2>"$work_dir/error") || status=$?
    aws_error=$(<"$work_dir/error")
    return "$status"
}

# Say what a complaint of the AWS CLI asks the user to do. Usage: refused WHAT PERMISSION
refused() {
    case $aws_error in
        *"Unable to locate credentials"* | *"could not be found"*)
            die "$1: no AWS credentials; run 'aws configure' or 'aws sso login', or set AWS_PROFILE" ;;
        *[Ee]xpired*)
            die "$1: the AWS session has expired; run 'aws sso login', or renew the credentials" ;;
        *InvalidClientTokenId* | *UnrecognizedClient* | *SignatureDoesNotMatch*)
            die "$1: AWS does not know these credentials; check 'aws configure list'" ;;
        *AccessDenied* | *"not authorized"*)
            die "$1: your AWS identity lacks the permission $2; AWS says: ${aws_error:-nothing}" ;;
        *) die "$1: the AWS CLI failed; it says: ${aws_error:-nothing}" ;;
    esac
}

find_account() {
    region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}}
    if [ -z "$region" ]; then
        ask REGION configure get region ||
            die "no AWS region; set AWS_REGION, or run: aws configure set region <region>"
        region=$aws_answer
    fi
    ask ACCOUNT sts get-caller-identity --query Account --output text ||
        refused "cannot tell the AWS account" sts:GetCallerIdentity
    say "account $aws_answer, region $region, tag $tag"
}

find_repository() {
    if ! ask "REGISTRY/$name" ecr describe-repositories --repository-names "$name" \
        --query 'repositories[0].repositoryUri' --output text; then
        [[ $aws_error == *RepositoryNotFound* ]] ||
            refused "cannot look for the repository '$name'" ecr:DescribeRepositories
        make_repository
    elif [ "$dry_run" = yes ]; then
        echo "# only when there is no such repository:" >&3
        make_repository
    fi
    uri=$aws_answer
    if [ -n "${ECR_REGISTRY:-}" ]; then uri=$ECR_REGISTRY/$name; fi
}

make_repository() {
    say "making the repository '$name'"
    ask "REGISTRY/$name" ecr create-repository --repository-name "$name" \
        --image-scanning-configuration scanOnPush=true --image-tag-mutability IMMUTABLE \
        --query repository.repositoryUri --output text ||
        refused "cannot make the repository '$name'" ecr:CreateRepository
}

# Sets digest and media_type of what the registry holds under the tag; fails when it holds nothing.
describe_image() {
    if ! ask "DIGEST MEDIA_TYPE" ecr describe-images --repository-name "$name" \
        --image-ids "imageTag=$tag" --output text \
        --query 'imageDetails[0].[imageDigest,imageManifestMediaType]'; then
        [[ $aws_error == *ImageNotFound* ]] ||
            refused "cannot look for the tag '$tag'" ecr:DescribeImages
        return 1
    fi
    read -r digest media_type <<<"$aws_answer"
}

check_tag_is_free() {
    if describe_image && [ "$dry_run" = no ]; then
        die "the tag '$tag' exists already ($digest), and tags are not overwritten;" \
            "use $uri@$digest, or commit something new"
    fi
}

log_in() {
    local registry=${uri%%/*}
    say "logging in to $registry"
    if [ "$dry_run" = yes ]; then
        echo "aws --region $region ecr get-login-password |" \
            "docker login --username AWS --password-stdin $registry" >&3
        return
    fi
    ask PASSWORD ecr get-login-password ||
        refused "cannot get a registry password" ecr:GetAuthorizationToken
    docker login --username AWS --password-stdin "$registry" \
        <<<"$aws_answer" >"$work_dir/log" 2>&1 ||
        die "the registry $registry refuses the login: $(tail -n 1 "$work_dir/log")"
}

build() {
    local local_base
    say "building $uri:$tag"
    engine_build_command --platform "$platform" --target "$target" --tag "$uri:$tag" \
        --build-arg "ACCELERATOR=$accelerator" ${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"} \
        ${BUILD_NETWORK:+--network "$BUILD_NETWORK"}
    run "${build_command[@]}" >&2 ||
        die "the build failed; where no registry can be reached for the base image," \
            "local_test/base_image.sh makes one"
    [ "$dry_run" = no ] || return 0
    local_base=$(docker image inspect --format '{{index .Config.Labels "byoa.base"}}' "$uri:$tag")
    [ "$local_base" != local ] ||
        say "warning: the base image is that of local_test/base_image.sh, which carries this host's" \
            "certificate authorities; for production set BASE_IMAGE to the official one"
}

push() {
    say "pushing $uri:$tag"
    if run docker push "$uri:$tag" 2>&1 | tee "$work_dir/log" >&2; then return; fi
    case $(<"$work_dir/log") in
        *immutable*)
            die "somebody else pushed the tag '$tag' meanwhile, and tags are immutable" ;;
        *denied* | *"not authorized"* | *"no basic auth"*)
            die "the push was denied: your AWS identity needs ecr:BatchCheckLayerAvailability," \
                "ecr:InitiateLayerUpload, ecr:UploadLayerPart, ecr:CompleteLayerUpload and" \
                "ecr:PutImage on the repository '$name'" ;;
        *) die "the push failed; the engine's messages are above" ;;
    esac
}

# SageMaker takes Docker's own manifest only: hosting refuses an OCI index as well as a single OCI
# image manifest (aws/amazon-sagemaker-feedback#180), and says so long after the push.
check_manifest() {
    local accepted=application/vnd.docker.distribution.manifest.v2+json
    describe_image || die "the registry does not know '$uri:$tag' right after the push"
    [ "$dry_run" = no ] || return 0
    [ "$media_type" = "$accepted" ] ||
        die "the registry holds '$uri:$tag' as $media_type; SageMaker accepts $accepted only." \
            "Build with buildx ('docker buildx version'), or turn the engine's containerd image" \
            "store off, and remove the tag: aws ecr batch-delete-image --repository-name $name" \
            "--image-ids imageTag=$tag"
}

exec 3>&1
parse_arguments "$@"
check_tools
choose_tag
work_dir=$(mktemp -d)
trap 'rm -rf "$work_dir"' EXIT

find_account
find_repository
check_tag_is_free
log_in
build
if [ "$smoke_test" = yes ]; then
    run scripts/smoke_test.sh "$uri:$tag" >&2 ||
        die "the image does not work (above), and was not pushed"
fi
push
check_manifest
if [ "$dry_run" = no ]; then
    echo "digest: $digest"
    echo "uri:    $uri:$tag"
fi
