"""English function words, which say little of what is seen: articles, prepositions, auxiliaries ...

Written as ``normalise_words`` leaves words: lower case, no punctuation. Numbers, directions and
negations that tell clips apart are not among them.
"""

STOP_WORDS = frozenset(
    """
    a about after again against ah along also although am among an and are arent as at be
    because been before being beneath beside between beyond but by can cant could couldnt did
    didnt do does doesnt doing dont during for from had hadnt has hasnt have havent having he
    her here heres hers herself hes him himself his how i if im in is isnt it its itself ive
    just may me might mine must my myself nor of oh on once only or our ours ourselves own past
    shall she shes should shouldnt since so such than that thats the their theirs them
    themselves then there theres these they theyll theyre theyve this those though throughout to
    too toward towards uh um unless until unto upon us very via was wasnt we were werent weve
    what whats when where whereas whether which while who whom whose why will with within
    without wont would wouldnt yet you youd youll your youre yours yourself yourselves youve
    """.split()
)
