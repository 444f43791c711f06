"""What the tool costs, measured on this machine."""
