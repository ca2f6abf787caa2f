"""A week of a care team on a simulated clock, judged by a model of the rules that knows none of the code."""
