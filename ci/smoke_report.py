"""What ci/smoke.py makes of its rows beside the table: JUnit XML, and the comparison with a stored baseline.

FPS is stored as a ratio, a folder's over that of a reference network which was measured in the same minute, so that neither a
noisy nor another machine of the kind looks like a change of the code.
"""
import json
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

FPS_SHARE = .7          # of the stored ratio: less is red. Ratios of equal code differed by up to a fifth on a busy machine
ACC_POINTS = 5.         # below the stored accuracy, in percent

TOP = Path(__file__).resolve().parent.parent

# timm's ResNet-18 for two seconds on made-up images of 64 pixels; prints images per second after three steps
REFERENCE = '''
import sys, time, timm, torch
from common import accelerator
device = accelerator.choose(sys.argv[1]).device
torch.manual_seed(0)
model = timm.create_model("resnet18", num_classes=10).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
images, targets = torch.randn(16, 3, 64, 64).to(device), torch.arange(16).to(device) % 10
def step():
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(images), targets)
    loss.backward()
    optimizer.step()
    return loss.item()               # waits for the device
for _ in range(3):
    step()
steps, start = 0, time.perf_counter()
while time.perf_counter() - start < 2:
    step()
    steps += 1
print(16 * steps / (time.perf_counter() - start))
'''


def reference_fps(python, device, environment):
    """-> images per second of the reference network now, here. Raises subprocess.CalledProcessError."""
    done = subprocess.run([python, '-c', REFERENCE, device], cwd=TOP, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def write_junit(rows, path):
    """One <testcase> a row, with a <failure> where it is red."""
    red = sum(bool(row['problems']) for row in rows)
    suite = ElementTree.Element('testsuite', name='smoke', tests=str(len(rows)), failures=str(red), errors='0',
                                time='%.1f' % sum(row['seconds'] for row in rows), timestamp=time.strftime('%Y-%m-%dT%H:%M:%S'))
    for row in rows:
        case = ElementTree.SubElement(suite, 'testcase', classname=row['folder'], name=row['script'], time='%.1f' % row['seconds'])
        if row['problems']:
            ElementTree.SubElement(case, 'failure', message=row['problems'][0]).text = '\n'.join(row['problems'])
    ElementTree.ElementTree(suite).write(path, encoding='utf-8', xml_declaration=True)


def figures(row):
    """-> {'fps_ratio', 'acc'} of a row, without what it did not measure."""
    found = {}
    if row.get('reference_fps') and number(row['fps']) is not None:
        found['fps_ratio'] = round(number(row['fps']) / row['reference_fps'], 4)
    if number(row['acc']) is not None:
        found['acc'] = number(row['acc'])
    return found


def number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def compare(rows, path, device):
    """Adds to each row's problems what is worse than the baseline in the file, or missing there."""
    stored = json.loads(path.read_text()).get(device, {})
    for row in rows:
        old, new = stored.get('%s %s' % (row['folder'], row['script'])), figures(row)
        if old is None:
            row['problems'].append('%s has no figures of this row for %s; --rebase writes them' % (path, device))
            continue
        for key, least in (('fps_ratio', lambda v: v * FPS_SHARE), ('acc', lambda v: v - ACC_POINTS)):
            if key in old and (key not in new or new[key] < least(old[key])):
                row['problems'].append('%s is %s, and the baseline %s' % (key, new.get(key, 'missing'), old[key]))


def rebase(rows, path, device):
    """Writes the figures of the green rows to the file; those of other rows and devices stay."""
    stored = json.loads(path.read_text()) if path.is_file() else {}
    stored.setdefault(device, {}).update({'%s %s' % (row['folder'], row['script']): figures(row) for row in rows if not row['problems']})
    path.write_text(json.dumps(stored, indent=1, sort_keys=True) + '\n')
