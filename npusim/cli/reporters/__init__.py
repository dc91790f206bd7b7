"""Drawing: each reporter turns plain data into something that rich prints. They know nothing of arguments or paths."""
