"""A checkpoint for elsewhere: train.py --export onnx|pth|safetensors --resume FILE."""

import importlib.util
import inspect
import json
import os
from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from torch import nn

from common import options, predict
from common.errors import UserError

NEAR = 1e-4  # how far onnxruntime's logits may be from torch's, of the largest one
ATTENTION = 14  # the first opset that has scaled_dot_product_attention


def run(args: options.Args, hooks: Any) -> int:
    """Writes the file that is asked for; it has its name when it is whole and checked. -> exit status"""
    check(args)
    model, _, classes = predict.ready(args, hooks)
    os.makedirs(args.output_dir, exist_ok=True)
    path = args.export_file or os.path.join(args.output_dir, f'{args.model}.{args.export}')
    partial = f'{path}.partial'
    try:
        WRITERS[args.export](model, args, classes, partial)
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)
    print(f'{args.model}, {len(classes)} classes: {path}')
    return 0


def check(args: options.Args) -> None:
    """Raises UserError where a package is missing."""
    needed = {'onnx': ('onnx', 'onnxruntime'), 'safetensors': ('safetensors',)}.get(args.export, ())
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'--export {args.export} needs {" and ".join(missing)}: pip install {" ".join(missing)}')


def about(args: options.Args, classes: List[str]) -> Dict[str, Any]:
    """-> what who uses the weights has to know: the model, its classes, and how images are prepared"""
    kept = [*args.adopted, 'num_classes', 'opt', 'case']
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in args.values().items() if name in kept}
    return {'format': 1, 'arch': args.model, 'classes': list(classes), 'args': plain}


def to_pth(model: nn.Module, args: options.Args, classes: List[str], path: str) -> None:
    torch.save({**about(args, classes), 'state_dict': model.state_dict()}, path)


def to_safetensors(model: nn.Module, args: options.Args, classes: List[str], path: str) -> None:
    from safetensors.torch import save_file

    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, path, metadata={'modelzoo': json.dumps(about(args, classes))})


def to_onnx(model: nn.Module, args: options.Args, classes: List[str], path: str) -> None:
    """images: (N, 3, H, W), normalised, N free -> logits (N, classes). Compared with torch's by onnxruntime. Raises UserError."""
    if args.opset < ATTENTION:
        for module in model.modules():
            if getattr(module, 'fused_attn', False):
                module.fused_attn = False
    images = torch.randn(2, 3, *options.sides(args.img_size), generator=torch.Generator().manual_seed(0))
    free = {'images': {0: 'N'}, 'logits': {0: 'N'}}
    names = {'input_names': ['images'], 'output_names': ['logits'], 'dynamic_axes': free}
    older = {'dynamo': False} if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
    try:
        torch.onnx.export(model, images, path, opset_version=args.opset, **names, **older)
    except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError) as e:
        reason = str(e).strip().split('\n')[0]
        raise UserError(
            f'--export onnx --opset {args.opset}: {args.model} cannot be written ({reason}); try another --opset'
        ) from e
    describe(path, about(args, classes))
    apart = difference(model, path, options.sides(args.img_size))
    if apart > NEAR:
        raise UserError(
            f'the ONNX model gives other logits than torch, by {apart:.1e} of the largest; no file was written, try another --opset'
        )
    print(f'onnxruntime gives the logits of torch to {apart:.1e} of the largest (opset {args.opset}).')


def describe(path: str, said: Dict[str, Any]) -> None:
    """Writes what is known of the model into the file: {'modelzoo': JSON}."""
    import onnx

    loaded = onnx.load(path)
    onnx.helper.set_model_props(loaded, {'modelzoo': json.dumps(said)})
    onnx.checker.check_model(loaded)
    onnx.save(loaded, path)


def difference(model: nn.Module, path: str, sides: Tuple[int, int]) -> float:
    """-> the largest distance of a logit from torch's, of batches of one and of three, as a share of the largest logit"""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    apart = []
    for count in (1, 3):
        images = torch.randn(count, 3, *sides, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            ours = model(images).numpy()
        theirs = session.run(None, {'images': images.numpy()})[0]
        apart.append(np.abs(ours - theirs).max() / max(1.0, np.abs(ours).max()))
    return float(max(apart))


WRITERS = {'onnx': to_onnx, 'pth': to_pth, 'safetensors': to_safetensors}
