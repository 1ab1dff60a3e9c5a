"""What a trained model is used for: classes of images, a report, a file for elsewhere."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch

from helpers import FOLDERS, SMALL, VAN, copy_alone, describe, explains, in_folder, run, train

LEARN = '--batch-size=16 --epochs=6 --warmup-epochs=1 --lr=2e-3 --drop-path=0 --mixup=0 --cutmix=0 --aa=none --reprob=0 --hflip=0'.split()
EVAL = ['--device=cpu', '--workers=0']


@pytest.fixture(scope='session')
def learned(few_digits, tmp_path_factory):
    """A small model that tells digits apart, better than by chance."""
    out = tmp_path_factory.mktemp('learned')
    result = train(VAN, few_digits, *SMALL, *LEARN, '--scale', '.6', '1', '--no-amp', out=out)
    assert result.code == 0, result.text
    return out / 'model_best.pth'


def evaluate(data, checkpoint, out, *more, **options):
    result = train(VAN, data, '--eval', f'--resume={checkpoint}', *EVAL, '--no-amp', *more, out=out, **options)
    assert result.code == 0, result.text
    return result.events('eval')[-1]


def rows(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def predict(checkpoint, out, images, *more):
    words = ['--predict', *images, f'--resume={checkpoint}', *EVAL, '--no-amp', *more]
    return train(VAN, *words, out=out)


def test_predictions_are_those_of_the_evaluation(few_digits, learned, tmp_path):
    result = predict(learned, tmp_path / 'a', [few_digits / 'val'], '--top-k=3')
    assert result.code == 0, result.text
    found = rows(tmp_path / 'a' / 'predictions.csv')
    right = [row['class_1'] == row['image'].split('/')[-2] for row in found]
    event = evaluate(few_digits, learned, tmp_path / 'b')
    assert len(right) == event['images'] and 100 * np.mean(right) == pytest.approx(event['acc1'], abs=1e-3)
    assert 20 < event['acc1'] < 100
    shares = [[float(row[f'probability_{k}']) for k in (1, 2, 3)] for row in found]
    assert all(1 >= a >= b >= c >= 0 and a + b + c <= 1.00001 for a, b, c in shares)


def test_a_damaged_image_is_named_and_the_others_are_done(data, learned, tmp_path):
    bad = data / 'val' / '0' / 'bad.jpg'
    bad.write_bytes(b'no image')
    result = predict(
        learned, tmp_path, [data / 'val' / '0', data / 'val' / '1'], f'--predictions={tmp_path}/found.json'
    )
    assert result.code == 1 and str(bad) in result.text and 'Traceback' not in result.text
    found = json.loads((tmp_path / 'found.json').read_text())
    images = [*(data / 'val' / '0').iterdir(), *(data / 'val' / '1').iterdir()]
    assert {row['image'] for row in found} == {str(path) for path in images} - {str(bad)}
    explains(predict(learned, tmp_path, [tmp_path / 'nowhere']), 'nowhere')
    explains(predict(tmp_path / 'no.pth', tmp_path, [data]), 'no.pth')


def test_the_script_predicts(few_digits, learned, tmp_path):
    folder = copy_alone(VAN, tmp_path / 'a server')
    image = sorted((few_digits / 'val' / '7').iterdir())[0]
    result = run(
        folder / 'test' / 'predict.sh', learned, image, '--device', 'cpu', f'--output-dir={tmp_path}', cwd=tmp_path
    )
    assert result.code == 0 and str(image) in result.text, result.text
    assert rows(tmp_path / 'predictions.csv')[0]['image'] == str(image)
    explains(run(folder / 'test' / 'predict.sh', learned), 'checkpoint')


@pytest.mark.parametrize('ranks', [1, 2])
def test_the_report_says_what_the_evaluation_found(ranks, few_digits, learned, tmp_path):
    event = evaluate(few_digits, learned, tmp_path, '--eval-report', ranks=ranks)
    images, classes = rows(tmp_path / 'eval_predictions.csv'), rows(tmp_path / 'eval_classes.csv')
    right = [row['class'] == row['predicted'] == row['image'].split('/')[-2] for row in images]
    assert len(images) == event['images'] and 100 * np.mean(right) == pytest.approx(event['acc1'], abs=1e-3)
    matrix = np.array([list(row.values())[1:] for row in rows(tmp_path / 'eval_confusion.csv')], dtype=int)
    assert matrix.shape == (10, 10) and matrix.sum() == len(images) and matrix.trace() == sum(right)
    recall = [row['recall'] for row in classes[:10]]
    assert recall == [f'{matrix[k, k] / matrix[k].sum():.4f}' for k in range(10)]
    assert [int(row['images']) for row in classes[:10]] == matrix.sum(1).tolist()
    assert (tmp_path / 'eval_confusion.png').read_bytes()[:4] == b'\x89PNG'


def test_some_of_the_classes(few_digits, learned, tmp_path):
    """Matched by their names: a data set of three classes of the ten."""
    some = tmp_path / 'some'
    for digit in '379':
        shutil.copytree(few_digits / 'val' / digit, some / 'val' / digit)
    event = evaluate(some, learned, tmp_path / 'a')
    evaluate(few_digits, learned, tmp_path / 'b', '--eval-report')
    right = [r['class'] == r['predicted'] for r in rows(tmp_path / 'b' / 'eval_predictions.csv') if r['class'] in '379']
    assert event['images'] == len(right) and event['acc1'] == pytest.approx(100 * np.mean(right), abs=1e-3)
    shutil.copytree(few_digits / 'val' / '1', some / 'val' / 'one')
    explains(train(VAN, some, '--eval', f'--resume={learned}', *EVAL, out=tmp_path / 'c'), 'classes')


@pytest.mark.parametrize('kind', ['pth', 'safetensors'])
def test_a_slim_checkpoint_is_evaluated_alike(kind, few_digits, learned, tmp_path):
    file = tmp_path / f'slim.{kind}'
    words = [f'--export={kind}', f'--resume={learned}', f'--export-file={file}', *EVAL]
    assert train(VAN, *words, out=tmp_path / 'a').code == 0
    assert file.stat().st_size < 1.1 * learned.stat().st_size
    one, two = (evaluate(few_digits, path, tmp_path / where) for path, where in ((learned, 'b'), (file, 'c')))
    assert {key: one[key] for key in ('acc1', 'loss', 'images')} == {
        key: two[key] for key in ('acc1', 'loss', 'images')
    }


FAMILIES = [(name, model) for name in FOLDERS for model in describe(name)['families']]


def exported(model, side, opset, out):
    """In a child: writes a model of random weights, and reads it back. -> how far its logits are from torch's; their size"""
    import onnxruntime

    import train
    from common import cli

    torch.manual_seed(0)
    made = train.create_model(model, num_classes=7, img_size=side)
    for p in made.parameters():  # a classifier may begin with zeros
        torch.nn.init.normal_(p, std=0.1) if not p.any() else None
    torch.save({'state_dict': made.state_dict()}, f'{out}/weights.pth')
    words = f'--export=onnx --opset={opset} --model={model} --img-size={side} --num-classes=7'.split()
    words += [f'--resume={out}/weights.pth', f'--output-dir={out}']
    assert cli.main('', train.RECIPE, train.HOOKS, words) == 0
    session = onnxruntime.InferenceSession(f'{out}/{model}.onnx', providers=['CPUExecutionProvider'])
    images = torch.rand(5, 3, side, side)
    with torch.no_grad():
        ours = made.eval()(images).numpy()
    theirs = session.run(None, {'images': images.numpy()})[0]
    about = json.loads(session.get_modelmeta().custom_metadata_map['modelzoo'])
    return float(np.abs(ours - theirs).max()), float(np.abs(ours).max()), about['arch'], about['args']['img_size']


@pytest.mark.parametrize('name, model', FAMILIES, ids=[model for _, model in FAMILIES])
@pytest.mark.parametrize('opset', [11, 17])
def test_onnxruntime_gives_the_logits_of_torch(name, model, opset, tmp_path, side=64):
    apart, size, *about = in_folder(name, exported, model, side, opset, str(tmp_path))
    assert size > 1e-3 and apart < 1e-4 * max(1.0, size)
    assert about == [model, side]


def test_what_an_export_needs_is_a_sentence(learned, tmp_path):
    words = ['--export=onnx', f'--resume={learned}', '--predict', str(tmp_path)]
    explains(train(VAN, *words, out=tmp_path), '--predict', '--export')
    explains(train(VAN, '--export=onnx', out=tmp_path), '--export', '--resume')
    kept = tmp_path / 'kept.onnx'
    kept.write_text('of an earlier export')
    words = ['--export=onnx', '--opset=25', f'--resume={learned}', f'--export-file={kept}']
    explains(train(VAN, *words, out=tmp_path), '--opset 25')
    assert kept.read_text() == 'of an earlier export' and not list(tmp_path.glob('*.partial'))
