"""Options of commands as objects. An option states once its name, its meaning and what it takes. argparse, the checks
of files before the work starts, and anything else that needs options (completion, manual pages) read it there."""
