"""Reads the logs of trainings, ours and those of other code bases. Its command line is common/log_parser.py.

reader.py     bytes -> lines -> their forms, which forms.py lists
log.py        Log, what one file holds: logged_run.py, a training; handlers.py, what a line does to it; series.py, in
              which order lines may come; timing.py, the time of steps; values.py, checked values; curve.py
numbers.py    a training -> its summary; report.py, compare.py and plot.py: the commands
"""
