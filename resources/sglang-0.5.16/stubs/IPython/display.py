"""The two names that sglang.utils takes from here; a server never calls them."""


def display(*objects, **options):
    raise NotImplementedError("notebooks need the real IPython")


class HTML:
    def __init__(self, *arguments, **options):
        raise NotImplementedError("notebooks need the real IPython")
