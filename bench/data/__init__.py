"""A task's data before it is measured: is it whole (`bench data verify`), can it be read quickly (`prepare`)?"""
