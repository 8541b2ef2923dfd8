"""Bad input by the thousand: whole files of every format, spoilt in seeded ways, given to the kit where its users give it theirs.

One case again, its files kept:  python -m tests.fuzz FORMAT SEED --keep FOLDER
All of them:                     python -m tests.fuzz
"""
