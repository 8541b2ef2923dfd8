"""What a mask says about a spine: its course (``curve``), which level a part belongs to (``levels``), its sizes (``report``)."""
