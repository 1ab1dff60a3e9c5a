#!/usr/bin/env bash
# A newcomer's first run: an environment, real handwritten digits, and a SPACH trained on them from scratch.
#     bash ci/quickstart.sh [any option of train.py ...]
set -Eeuo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
python=$(bash "$top/ci/env.sh")
data=$top/build/digits
if [[ ! -d $data ]]; then
    "$python" "$top/ci/make_dataset.py" digits "$data" --size 64
fi
folder=$top/SPACH_for_PyTorch
export PYTHON=$python
# Digits are no photographs: mirrored or strongly cropped they are other digits, so the recipe's augmentation is left out.
bash "$folder/test/train_full_1p.sh" --data_path="$data" --output_dir="$top/build/quickstart" \
    --model spach_ms_xxs_patch4_224_conv --img-size 32 --crop-pct 1 --batch-size 64 \
    --epochs 15 --warmup-epochs 1 --lr 2e-3 --no-lr-scaled --drop-path 0 --no-model-ema --mixup 0 --cutmix 0 --aa none --reprob 0 \
    --hflip 0 --scale .6 1 --print-freq 5 "$@"
out=$top/build/quickstart
say() { printf '  %s\n' "$(printf '%q ' "$@")"; }
echo "The checkpoint is $out/checkpoint.pth; evaluate it, and see what it takes images for, with"
say PYTHON="$python" bash "$folder/test/train_eval_1p.sh" "$data" "$out/checkpoint.pth"
say PYTHON="$python" bash "$folder/test/predict.sh" "$out/checkpoint.pth" "$data/val/7" --output-dir="$out"
echo "The curves of the training:"
printf '  cd %q && %q -m common.log_parser plot %q -o %q\n' "$top" "$python" "$out" "$out/curves.png"
echo "Your own images, a folder for each class in DIR/train and DIR/val, from this checkpoint's weights:"
say PYTHON="$python" bash "$folder/test/train_finetune_1p.sh" --data_path=DIR --finetune_pth="$out/checkpoint.pth"
