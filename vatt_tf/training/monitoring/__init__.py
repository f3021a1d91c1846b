"""What people see of a run: progress and guards."""
