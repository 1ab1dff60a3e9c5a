#!/usr/bin/env bash
# A CANN installation for env_npu.sh to find: the simulated device needs no environment of it.
