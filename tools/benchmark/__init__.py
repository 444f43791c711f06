"""What C-MIEI costs: estimates, training steps and audits, timed in turns."""
