"""How each vector store is read: a module ``read(store, page_size)`` for every one of them."""
