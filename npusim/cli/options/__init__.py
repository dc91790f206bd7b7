"""Options of commands as objects. An option says once what it is called, what it means and what it takes; argparse,
the checks of files before the work starts, and whatever else is made of options (completion, pages) read it there."""
