"""The answering side in a terminal: what is open, and every command, for teams without anything else."""
