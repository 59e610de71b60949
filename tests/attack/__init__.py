"""Attacks on a service from outside: ``make attack`` prints what was tried, how often, and what got through."""
