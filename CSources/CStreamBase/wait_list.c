#include "wait_list.h"

void sc_wait_list_add(struct sc_wait_list *list, struct sc_wait_node *node) {
    assert(node->list == NULL);
    node->list = list;
    node->next = NULL;
    node->previous = list->last;
    *(list->last != NULL ? &list->last->next : &list->first) = node;
    list->last = node;
    list->count++;
}

void sc_wait_list_add_first(struct sc_wait_list *list, struct sc_wait_node *node) {
    assert(node->list == NULL);
    node->list = list;
    node->previous = NULL;
    node->next = list->first;
    *(list->first != NULL ? &list->first->previous : &list->last) = node;
    list->first = node;
    list->count++;
}

void sc_wait_list_remove(struct sc_wait_node *node) {
    struct sc_wait_list *list = node->list;
    if (list == NULL)
        return;
    *(node->previous != NULL ? &node->previous->next : &list->first) = node->next;
    *(node->next != NULL ? &node->next->previous : &list->last) = node->previous;
    *node = (struct sc_wait_node){0};
    assert(list->count > 0);
    list->count--;
}

struct sc_wait_node *sc_wait_list_take(struct sc_wait_list *list) {
    struct sc_wait_node *node = list->first;
    if (node != NULL)
        sc_wait_list_remove(node);
    return node;
}

uint32_t sc_wait_list_wake(struct sc_wait_list *list, uint32_t most,
                           bool (*wake)(struct sc_wait_node *node, void *context), void *context) {
    uint32_t count = list->count < most ? list->count : most, woken = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct sc_wait_node *node = sc_wait_list_take(list);
        if (node == NULL)
            break; // Another's wake has removed it.
        if (wake(node, context))
            woken++;
        else
            sc_wait_list_add(list, node);
    }
    return woken;
}
