"""The console: pages for people at /console (docs/console.md).

A page is a module with a class that is given the Desk and whatever flows it needs, and whose `routes()` app.py hands to
Console: `pages(path, endpoint)` for what is read (HTML and its twin in JSON), `action(path, endpoint)` for what a form
does, ending with `done(where)`. Its name and place go into desk.NAVIGATION, its template extends base.html.

What it reads it reads by `desk.look`, for the account that `viewer.account()` or `desk.chosen()` allows and no
other. The Gate has judged session and CSRF token before any of it runs: forms hold `parts.csrf(csrf)`, endpoints read
`form_of(request)`.
"""
