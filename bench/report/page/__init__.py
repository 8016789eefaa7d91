"""One self-contained HTML file about everything that some results folders hold: `bench report`.

`parts` reads; `overview`, `runs`, `tables` and `pictures` say it in words, tables and plots; `page` writes it down.
"""
