#!/bin/sh
# Prints a Python of 3.11 to 3.13 that can make virtual environments; PYTHON names one, else the newest found is taken.
fits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

if [ -n "$PYTHON" ]; then
    fits "$PYTHON" && echo "$PYTHON" && exit 0
else
    for python in python3.13 python3.12 python3.11 python3 python; do
        fits "$python" && echo "$python" && exit 0
    done
fi
echo "Expected Python 3.11, 3.12 or 3.13 with the modules venv and ensurepip (Debian: apt install python3-venv)," >&2
echo "found none${PYTHON:+ as $PYTHON}. Install one, or name it: make setup PYTHON=/path/to/python3.12" >&2
exit 1
