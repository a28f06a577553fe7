"""PhJob at the command line: `kubectl phjob`.

It looks with the user's own rights at what everybody may see, and answers with the services' own pure
code: the same queue, the same words. It asks no service, and needs none to be reachable.
"""
