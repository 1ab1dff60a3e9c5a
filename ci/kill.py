"""Kills trainings with SIGKILL at random moments and goes on with --auto-resume, until so many were killed:

    python ci/kill.py [--kills 200] [--folder ConvMixer_for_PyTorch] [--seed 0]

Half of the trainings have one rank, half two; all save every few steps, so that many are killed while they write. After each kill
nothing may be lost beyond the last saving interval, and at the end a training has the state of one that was not killed, to the bit.
Prints a line for each training, and exits with 1 where one is wrong.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOP / 'tests'), str(TOP)]

import torch  # noqa: E402

import helpers  # noqa: E402

STEPS, EPOCHS, INTERVAL = 10, 4, 2  # of an epoch; epochs; steps between saves
WORDS = f'--img-size=32 --device=cpu --workers=0 --batch-size=8 --max-steps={STEPS} --epochs={EPOCHS} --eval-steps=1 --lr=1e-3'.split()
WORDS += f'--print-freq=1 --save-steps={INTERVAL} --model-ema --auto-resume'.split()


class Training:
    """One that runs, by so many ranks, in processes of their own."""

    def __init__(self, folder, data, out, ranks):
        self.out, self.said = out, out / 'said'
        out.mkdir(parents=True, exist_ok=True)
        argv = [f'--data-path={data}', '--model', helpers.describe(folder)['model'], *WORDS, f'--output-dir={out}']
        self.processes = []
        for place in helpers.places(ranks):
            arguments = (helpers.TOP / folder, argv, helpers.environment(**place), str(self.said))
            self.processes.append(helpers.server().Process(target=helpers.train_here, args=arguments))
            self.processes[-1].start()

    def run_for(self, seconds):
        """-> whether it ended by itself; else it is killed, all of it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(process.is_alive() for process in self.processes):
            time.sleep(0.005)
        killed = [process for process in self.processes if kill(process)]
        for process in self.processes:
            process.join()
        codes = [process.exitcode for process in self.processes]
        if not killed and any(codes):
            raise RuntimeError(f'a training ended with {codes}:\n{self.said.read_text()[-3000:]}')
        return not killed


def kill(process):
    """-> whether it was there to be killed; it may end by itself in this moment."""
    try:
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            return True
    except ProcessLookupError:
        pass
    return False


def logged(out):
    """-> how many steps the log has."""
    path, found = out / 'metrics.jsonl', 0
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            event = json.loads(line)
        except ValueError:  # the last one, cut
            continue
        if event['event'] == 'train':
            found = max(found, event['epoch'] * STEPS + event['step'])
    return found


def saved(out):
    """-> (steps of the newest checkpoint, whether a file was half written)"""
    path = next((out / name for name in ('checkpoint.pth', 'checkpoint-1.pth') if (out / name).exists()), None)
    content = torch.load(str(path)) if path else {'epoch': 0, 'step': 0}
    return content['epoch'] * STEPS + content['step'], any(out.glob('*.tmp'))


def state(out):
    """-> what has to be equal at the end."""
    return [helpers.content(out / name) for name in ('checkpoint.pth', 'model_best.pth')]


class Campaign:
    """The kills of trainings of one number of ranks. kills, writing: how many, and how many of them while a file was written."""

    def __init__(self, options, data, top, ranks):
        self.options, self.data, self.top, self.ranks = options, data, top, ranks
        self.random, self.kills, self.writing, self.lost, self.wrong = random.Random(options.seed + ranks), 0, 0, 0, []

    def train(self, out, seconds):
        return Training(self.options.folder, self.data, out, self.ranks).run_for(seconds)

    def run(self):
        begun = time.monotonic()
        self.train(self.top / f'whole {self.ranks}', 1e6)
        took, whole, number = time.monotonic() - begun, state(self.top / f'whole {self.ranks}'), 0
        while self.kills < self.options.kills // 2:
            number += 1
            out = self.top / f'{self.ranks} {number}'
            before = self.kills
            while not self.train(out, self.random.uniform(0.2, 0.6) * took):
                self.note_kill(out)
            equal = state(out) == whole
            self.wrong += [] if equal else [f'{out.name}: another state at the end']
            print(f'{self.ranks} ranks, training {number}: killed {self.kills - before} times, '
                  f'then the state is {"equal" if equal else "ANOTHER"}', flush=True)  # fmt: skip
            shutil.rmtree(out)

    def note_kill(self, out):
        self.kills += 1
        done, (kept, half) = logged(out), saved(out)
        self.writing += half
        self.lost = max(self.lost, done - kept)
        if done - kept > INTERVAL:
            self.wrong.append(f'{out.name}: {done} steps were made and {kept} saved')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--kills', type=int, default=200)
    parser.add_argument('--folder', default=helpers.FOLDERS[0], choices=helpers.FOLDERS)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        data = helpers.make_digits(Path(top) / 'digits')
        helpers.in_folder(options.folder, os.getpid)  # the imports belong to no training's time
        campaigns = [Campaign(options, data, Path(top), ranks) for ranks in (1, 2)]
        threads = [threading.Thread(target=campaign.run) for campaign in campaigns]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    kills, writing = (sum(getattr(one, name) for one in campaigns) for name in ('kills', 'writing'))
    wrong = [line for one in campaigns for line in one.wrong]
    for line in wrong:
        print(line)
    print(f'{kills} kills, {writing} of them while a checkpoint was written; {kills - len(wrong)} survived; '
          f'at most {max(one.lost for one in campaigns)} steps were lost, and {INTERVAL} lie between two saves')  # fmt: skip
    return 1 if wrong or kills < options.kills // 2 * 2 else 0


if __name__ == '__main__':
    sys.exit(main())
