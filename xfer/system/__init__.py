"""What this program needs of the operating system and of threads. Knows no file transfer."""
