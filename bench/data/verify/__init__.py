"""`bench data`: is a task's data whole, readable and fairly split?"""
