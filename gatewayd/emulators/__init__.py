"""Phone and lock as software: they speak the whole protocol and keep real state."""
