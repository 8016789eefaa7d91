"""One self-contained HTML file about everything that some results folders hold: `bench report`.

`parts` reads and makes tables; `runs` and `pictures` say it in words and plots; `page` writes it down.
"""
