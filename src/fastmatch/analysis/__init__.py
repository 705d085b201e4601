"""What alignments and barriers tell about networks: sequences, features, populations."""
