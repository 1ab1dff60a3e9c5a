"""A rank without torch, for test_launcher.py: rank.py FILE HOW writes its place to FILE<rank>, and ends as HOW says."""

import os
import signal
import sys
import time

path, how, told = sys.argv[1] + os.environ['RANK'], sys.argv[2], []
signal.signal(signal.SIGTERM, lambda signum, frame: told.append(signum))
place = ('LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
with open(path, 'w') as f:
    f.write(' '.join(os.environ[name] for name in place))
if how == 'fail' and os.environ['RANK'] == '3':
    sys.exit(7)
if how == 'die' and os.environ['RANK'] == '3':
    os.kill(os.getpid(), signal.SIGKILL)
end = time.monotonic() + 40
while how != 'end' and not told and time.monotonic() < end:
    time.sleep(0.05)
time.sleep(0.5 if told else 0)  # saves
with open(path, 'a') as f:
    f.write(' ended')
sys.exit(143 if told else 0)
