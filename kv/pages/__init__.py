"""Page ids: which pages are free, which sequence holds which, and who may run. No arrays here."""
