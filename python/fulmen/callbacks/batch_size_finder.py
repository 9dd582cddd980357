from fulmen.callbacks.callback import Callback


class BatchSizeFinder(Callback):
    """x"""
