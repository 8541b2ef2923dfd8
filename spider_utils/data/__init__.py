"""Reading, making, checking and slicing the data."""
