"""Reads the logs of trainings, ours and those of other code bases. Its command line is common/log_parser.py.

forms.py          the lines that are known, as regular expressions, and which lines tell which format
reader.py         bytes -> lines -> forms; handlers.py: what each kind of line does
log.py            Log: the trainings that one file holds, and where one ends and the next begins
logged_run.py     LoggedRun: one training; series.py: in which order its lines may come; timing.py, curve.py: what is
                  kept of them; values.py: from bytes to checked values
numbers.py        LoggedRun -> a summary
report.py, compare.py, plot.py    the output of the commands
"""
