"""What a server must answer, case by case."""
