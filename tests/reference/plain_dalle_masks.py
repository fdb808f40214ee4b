"""DALL-E's attention masks, token by token, as the rule reads (Ramesh et al. 2021, B.1)."""


def plain_mask(pattern, num_text, grid_size, kernel_size):
    """A list of lists: may `query` look at `key`?"""
    states = [("text", position) for position in range(num_text)]
    states += [("image", (row, col)) for row in range(grid_size) for col in range(grid_size)]
    return [[sees(pattern, q, k, grid_size, kernel_size) for k in states] for q in states]


def sees(pattern, query, key, grid_size, kernel_size):
    kind, place = query
    key_kind, key_place = key
    if key_kind == "text":
        return kind == "image" or key_place <= place
    if kind == "text":
        return False
    row, col = place
    index = row * grid_size + col
    key_index = key_place[0] * grid_size + key_place[1]
    if key_index > index:
        return False
    if pattern == "row":
        return key_index in [index - back for back in range(grid_size + 1)]
    if pattern == "column":
        return key_place[1] == col
    if pattern == "convolution":
        half = kernel_size // 2
        window = [
            (row + down) * grid_size + (col + right)
            for down in range(-half, half + 1)
            for right in range(-half, half + 1)
        ]
        return key_index in window
    assert pattern == "full"
    return True
