"""What every room stands on: errors, files, progress, processes, the machine. It knows of no video."""
