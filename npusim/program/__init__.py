"""Programs: command buffers and dmabufs, the order in which their commands run, and their commands as text."""
