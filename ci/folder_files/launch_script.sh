#!/usr/bin/env bash
# SENTENCE
#     bash ./test/train_NAME.sh ARGUMENTS
exec bash "$(dirname "${BASH_SOURCE[0]}")/../common/launch.sh" CASE RANKS "$@" OPTIONS
