"""What the tool costs: whole estimates, training steps and audits, timed in turns."""
