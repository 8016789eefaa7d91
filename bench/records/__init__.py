"""Records and tables that runs leave on disk: written, read and checked."""
