"""What the socket transports share: everything but the format of their bytes.

``codec`` is the contract that a format fulfils without any I/O; ``connection`` runs a codec over a
socket and owns the tasks of its calls; ``listener`` and ``dialer`` make connections; ``tls``,
``limits``, ``budgets`` and ``messages`` are what their names say.
"""
