"""One module a format. Each has ``whole(folder)``, what is whole (made once a process), and ``spoil(random, folder, whole)``,
which writes bad input into ``folder`` and returns the calls that are to be judged, by name.
"""
