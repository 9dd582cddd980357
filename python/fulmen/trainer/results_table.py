def print_results(*a):
    print(a)
