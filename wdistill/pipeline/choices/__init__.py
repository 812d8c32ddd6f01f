"""What a run chooses by short students: coding, labels, and how to spend a budget."""
