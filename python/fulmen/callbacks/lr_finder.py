from fulmen.callbacks.callback import Callback


class LearningRateFinder(Callback):
    """x"""
