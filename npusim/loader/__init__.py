"""The .cvimodel container: reading its tables and sections."""
