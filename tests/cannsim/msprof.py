"""CANN's command msprof, as far as torch_npu.profiler calls it: it makes of what profiler.cpp wrote what torch_npu reads.

msprof --export=on --output=PROF_...      writes mindstudio_profiler_output/ with a timeline and a table of tasks
msprof --analyze=on --output=PROF_...     does nothing: there is nothing to say of communication
"""

import argparse
import csv
import json
import sys
import time
from pathlib import Path

HOST = 99  # the process of the launches in the timeline, as none of the devices has this number


def name_of(kind, device, stream, name):
    return {'name': kind, 'ph': 'M', 'pid': device, 'tid': stream, 'args': {'name': name}}


def events_of(device, number, task):
    """-> a task, and the arrow from its launch to it, in Chrome's trace format"""
    place = {'pid': device, 'tid': task['stream'], 'ts': task['begun']}
    arrow = {'name': 'HostToDevice', 'cat': 'HostToDevice', 'id': f'{device}-{number}'}
    more = {'Stream Id': task['stream'], 'Task Id': number, 'Task Type': 'AI_CORE'}
    yield {'name': task['name'], 'ph': 'X', 'dur': task['took'], 'args': more, **place}
    yield {**arrow, 'ph': 's', 'pid': HOST, 'tid': 0, 'ts': task['launched']}
    yield {**arrow, 'ph': 'f', 'bp': 'e', **place}


def timeline(device, tasks):
    """-> all events of a device: it is a process, and its streams are threads"""
    yield name_of('process_name', device, 0, 'Ascend Hardware')
    for stream in sorted({task['stream'] for task in tasks}):
        yield name_of('thread_name', device, stream, f'Stream {stream}')
    for number, task in enumerate(tasks):
        yield from events_of(device, number, task)


def row(device, number, task):
    return {
        'Device_id': device,
        'Model ID': 4294967295,
        'Task ID': number,
        'Stream ID': task['stream'],
        'Op Name': task['name'],
        'OP Type': task['name'],
        'Task Type': 'AI_CORE',
        'Task Start Time(us)': task['begun'],
        'Task Duration(us)': task['took'],
        'Task Wait Time(us)': 0,
        'Block Dim': 1,
    }


def export(folder):
    events, rows = [], []
    for path in sorted(folder.glob('device_*/cannsim.json')):
        device, tasks = int(path.parent.name.split('_')[1]), json.loads(path.read_text())
        events += timeline(device, tasks)
        rows += [row(device, number, task) for number, task in enumerate(tasks)]
    out, stamp = folder / 'mindstudio_profiler_output', time.strftime('%Y%m%d%H%M%S')
    out.mkdir(exist_ok=True)
    (out / f'msprof_{stamp}.json').write_text(json.dumps(events))
    with open(out / f'op_summary_{stamp}.csv', 'w', newline='') as file:
        writer = csv.DictWriter(file, list(row(0, 0, dict.fromkeys(('stream', 'name', 'begun', 'took')))))
        writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(prog='msprof', description='The simulated msprof.')
    parser.add_argument('--export', choices=['on', 'off'], default='off')
    parser.add_argument('--analyze', choices=['on', 'off'], default='off')
    parser.add_argument('--output', type=Path, required=True)
    given = parser.parse_args()
    if not given.output.is_dir():
        sys.exit(f'msprof: there is no folder {given.output}')
    if given.export == 'on':
        export(given.output)
        # torch_npu looks for the table ten times a second, and gives up where this ends before it has seen it
        time.sleep(1)


if __name__ == '__main__':
    main()
