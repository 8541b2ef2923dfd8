"""What a mask says about a spine: its course (``curve``), and which level each part belongs to (``levels``)."""
