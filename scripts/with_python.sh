#!/bin/sh
# Run a script of this project with a Python that is new enough: with_python.sh VENV SCRIPT ARGUMENTS...
# Takes the environment's own Python if it is there, else $PYTHON, else the first of the usual names that fits.
set -u
venv=$1
shift

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; }

if [ -n "$venv" ] && [ -x "$venv/bin/python" ]; then
    if fits "$venv/bin/python"; then exec "$venv/bin/python" "$@"; fi
    echo "error: the environment $venv has $("$venv/bin/python" --version 2>&1), and Python 3.10 or newer is needed" >&2
    echo "cure:  remove it and run make again, or name another one with VENV=path" >&2
    exit 1
fi
for python in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.10 python3.14 python; do
    if fits "$python"; then exec "$python" "$@"; fi
done
echo "error: no Python 3.10 or newer found (python3 is $(python3 --version 2>&1 || echo 'not installed'))" >&2
echo "cure:  install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.12)," >&2
echo "       or say where it is: make ... PYTHON=/path/to/python3.12" >&2
exit 1
